# From records to tables, figures, verdicts and the page; nothing here trains, and so it runs where Snakemake does.

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


rule tables:
    input:
        ensemble_results(),
        children=f"{SOURCE}/children.csv",
        history=f"{SOURCE}/history.parquet",
        study=f"{SOURCE}/study.json",
        code=CODE,
    output:
        report(
            f"paper_tables/{NAME}/table1_accuracy.csv",
            caption="../report/table1_accuracy.rst",
            category="Tables",
            labels={"table": "1", "shows": "accuracy by method and sparsity"},
        ),
        report(
            f"paper_tables/{NAME}/table2_ablation.csv",
            caption="../report/table2_ablation.rst",
            category="Tables",
            labels={"table": "2", "shows": "tau, annealing epochs and schedule"},
        ),
        report(
            f"paper_tables/{NAME}/table3_differences.csv",
            caption="../report/table3_differences.rst",
            category="Tables",
            labels={"table": "3", "shows": "paired differences to one-shot"},
        ),
        report(
            f"paper_tables/{NAME}/table4_sanity.csv",
            caption="../report/table4_sanity.rst",
            category="Tables",
            labels={"table": "4", "shows": "our numbers beside known ones"},
        ),
        of_ensembles("table", TABLES_OF_ENSEMBLES),
        expand("paper_tables/{study}/{table}.{format}", study=NAME, table=table_names(), format=FORMATS[1:]),
    log:
        f"{LOGS}/tables.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa tables {params.results:q} --out {params.out:q} 2> {log:q}"


rule claims:
    input:
        ensemble_results(),
        children=f"{SOURCE}/children.csv",
        history=f"{SOURCE}/history.parquet",
        study=f"{SOURCE}/study.json",
        code=CODE,
    output:
        verdicts=report(
            f"paper_tables/{NAME}/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims", "shows": "a verdict on each claim"},
        ),
        text=f"paper_tables/{NAME}/claims.md",
    log:
        f"{LOGS}/claims.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa claims {params.results:q} --out {params.out:q} 2> {log:q}"


rule figures:
    input:
        ensemble_results(),
        children=f"{SOURCE}/children.csv",
        history=f"{SOURCE}/history.parquet",
        study=f"{SOURCE}/study.json",
        code=CODE,
    output:
        accuracy=report(
            f"figures/{NAME}/accuracy_vs_sparsity.png",
            caption="../report/accuracy_vs_sparsity.rst",
            category="Figures",
            labels={"figure": "accuracy against sparsity"},
        ),
        curves=report(
            f"figures/{NAME}/learning_curves.png",
            caption="../report/learning_curves.rst",
            category="Figures",
            labels={"figure": "accuracy of the target subnetwork per epoch"},
        ),
        ablation=report(
            f"figures/{NAME}/ablation_heatmap.png",
            caption="../report/ablation_heatmap.rst",
            category="Figures",
            labels={"figure": "tau and annealing epochs"},
        ),
        laws=report(
            f"figures/{NAME}/keep_probability.png",
            caption="../report/keep_probability.rst",
            category="Figures",
            labels={"figure": "keep-probability over time"},
        ),
        forest=report(
            f"figures/{NAME}/forest_differences.png",
            caption="../report/forest_differences.rst",
            category="Figures",
            labels={"figure": "paired differences to one-shot"},
        ),
        of_ensembles=of_ensembles("figure", FIGURES_OF_ENSEMBLES),
        print=expand("figures/{study}/{figure}.pdf", study=NAME, figure=figure_names()),
    log:
        f"{LOGS}/figures.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa figures {params.results:q} --out {params.out:q} 2> {log:q}"


if FINDINGS:

    rule findings:
        input:
            ensemble_results(),
            children=f"{SOURCE}/children.csv",
            history=f"{SOURCE}/history.parquet",
            study=f"{SOURCE}/study.json",
            code=CODE,
        output:
            report(
                expand("figures/{study}/finding_{finding}.png", study=NAME, finding=FINDINGS),
                caption="../report/findings.rst",
                category="Findings",
            ),
            expand("paper_tables/{study}/finding_{finding}.csv", study=NAME, finding=FINDINGS),
            expand("figures/{study}/finding_{finding}.pdf", study=NAME, finding=FINDINGS),
        log:
            f"{LOGS}/findings.log",
        localrule: True
        conda:
            "../../envs/ssa.yaml"
        params:
            results=subpath(input.children, parent=True),
            tables=f"paper_tables/{NAME}",
            figures=f"figures/{NAME}",
        shell:
            "python -m ssa findings {params.results:q} --tables {params.tables:q} --figures {params.figures:q}"
            " 2> {log:q}"


rule page:
    input:
        rules.tables.output,
        ensemble_results(),
        children=f"{SOURCE}/children.csv",
        parents=f"{SOURCE}/parents.csv",
        history=f"{SOURCE}/history.parquet",
        study=f"{SOURCE}/study.json",
        claims=rules.claims.output.verdicts,
        figure=rules.figures.output.accuracy,
        code=CODE,
    output:
        report(
            page(),
            caption="../report/page.rst",
            category="Report",
            labels={"page": "the study on one page"},
        ),
    log:
        f"{LOGS}/page.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        tables=subpath(input.claims, parent=True),
        figures=subpath(input.figure, parent=True),
    shell:
        "python -m ssa report {params.results:q} --tables {params.tables:q} --figures {params.figures:q}"
        " --out {output:q} 2> {log:q}"
