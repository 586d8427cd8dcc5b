"""Print what several seeds of an example found, with its spread."""

from statistics import mean, stdev

from scipy import stats


def show(rows: list[list[float]], unit: str, digits: int = 1) -> None:
    """The mean of each column of ``rows`` (one for each seed), then annealed minus one-shot with a 95% t-interval."""
    for name, each in zip(("parent", "one-shot", "annealed"), zip(*rows, strict=True), strict=True):
        print(f"{name}: {mean(each):.{digits}f}{unit} (n = {len(rows)})")
    gains = [annealed - one_shot for _, one_shot, annealed in rows]
    if len(gains) < 2:
        print(f"annealed minus one-shot: {gains[0]:+.{digits + 1}f} (n = 1, no interval)")
        return
    half = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    print(f"annealed minus one-shot: {mean(gains):+.{digits + 1}f} ± {half:.{digits + 1}f} (95%, n = {len(gains)})")
