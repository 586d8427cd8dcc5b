# From records to tables, figures, verdicts and the page; nothing here trains, and so it runs where Snakemake does.

from ssa.report.outputs import outputs as ssa_outputs
from ssa.results import planned as ssa_planned


def shown():
    """All that the study's results are shown in, with captions where Snakemake's report shows it too."""
    plan = ssa_planned.of(study, Path(SOURCE) if RECORDED else None)
    reported = report  # a line that begins with the word itself is a statement of Snakemake's
    return [
        (
            reported(one.path, caption=caption_file(one), category=one.category, labels=dict(one.labels))
            if one.caption
            else one.path
        )
        for one in ssa_outputs(NAME, page(), plan)
    ]


def caption_file(output):
    """The file that Snakemake reads the caption from, anew in a folder of its own; who only looks leaves no other."""
    path = workflow.snakemake_tmp_dir / "captions" / f"{Path(output.path).name}.rst"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{output.caption}\n", encoding="utf-8")
    return str(path)


if not RECORDED:

    rule aggregate:
        input:
            marks=job_marks,
            newer=newer_records,
            study=STUDY_FILE,
            code=CODE,
        output:
            ensemble_results(),
            children=f"{RESULTS}/children.csv",
            parents=f"{RESULTS}/parents.csv",
            history=f"{RESULTS}/history.parquet",
            study=f"{RESULTS}/study.json",
        log:
            f"{LOGS}/aggregate.log",
        localrule: True
        conda:
            "../../envs/ssa.yaml"
        shell:
            "python -m ssa aggregate {input.study:q} 2> {log:q}"


rule report:
    input:
        ensemble_results(),
        children=f"{SOURCE}/children.csv",
        parents=f"{SOURCE}/parents.csv",
        history=f"{SOURCE}/history.parquet",
        study=f"{SOURCE}/study.json",
        code=CODE,
    output:
        shown(),
    log:
        f"{LOGS}/report.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        tables=f"paper_tables/{NAME}",
        figures=f"figures/{NAME}",
        page=page(),
    shell:
        "python -m ssa report {params.results:q} --tables {params.tables:q} --figures {params.figures:q}"
        " --out {params.page:q} 2> {log:q}"
