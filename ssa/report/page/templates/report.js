"use strict";
// Sorting by a column's head, enlarging a figure, and printing what is folded. Without this script all text is there.
(() => {
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim().replaceAll("−", "-").replaceAll(",", "");
    const number = /^[<>†]?\s*([-+]?[0-9.]+)/.exec(text);
    return { text, number: number ? parseFloat(number[1]) : null };
  };
  const compare = (a, b) => {
    if (a.number !== null && b.number !== null) return a.number - b.number;
    return a.text.localeCompare(b.text, "en", { numeric: true });
  };
  const empty = (cell) => cell.text === "" || cell.text === "–";

  function sort(table, head, column) {
    const down = head.getAttribute("aria-sort") === "ascending";
    table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row, column) }));
    rows.sort((a, b) => empty(a.key) - empty(b.key) || (down ? -1 : 1) * compare(a.key, b.key));
    table.tBodies[0].append(...rows.map((entry) => entry.row));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, head, column));
      head.replaceChildren(button);
    });
  });

  const dialog = document.getElementById("zoom");
  const enlarged = dialog.querySelector("img");
  const resize = (width) => { enlarged.style.width = `${Math.round(width)}px`; };
  const enlarge = (image) => {
    enlarged.src = image.src;
    enlarged.alt = image.alt;
    dialog.showModal();
    resize(Math.max(innerWidth, image.naturalWidth));
  };
  dialog.addEventListener("click", (event) => {
    const step = event.target.dataset.zoom;
    if (step === "close") dialog.close();
    else if (step) resize(enlarged.getBoundingClientRect().width * Number(step));
  });
  document.querySelectorAll("img.zoomable").forEach((image) => {
    const caption = image.closest("figure").querySelector("figcaption p");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Enlarge";
    button.setAttribute("aria-label", `Enlarge ${caption.querySelector("strong").textContent}`);
    button.addEventListener("click", () => enlarge(image));
    image.addEventListener("click", () => enlarge(image));
    caption.append(button);
  });

  const open = () => document.querySelectorAll("details").forEach((details) => { details.open = true; });
  addEventListener("beforeprint", open);
})();
