# From records to tables, figures, verdicts and the page; nothing here trains, and so it runs where Snakemake does.

if not RECORDED:

    rule aggregate:
        input:
            marks=job_marks,
            newer=newer_records,
            said=SAID,
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
    threads: 2
    params:
        results=subpath(input.children, parent=True),
        tables=tables_folder,
        figures=figures_folder,
        page=page,
    shell:
        "python -m ssa report {params.results:q} --tables {params.tables:q} --figures {params.figures:q}"
        " --out {params.page:q} --threads {threads} 2> {log:q}"
