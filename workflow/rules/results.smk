# From records to tables, figures, verdicts and the page; nothing here trains.


rule aggregate:
    input:
        marks=job_marks,
        study=STUDY_FILE,
        code=modules("aggregate.py", "study.py", "store.py"),
    output:
        children=f"{RESULTS}/children.csv",
        parents=f"{RESULTS}/parents.csv",
        history=f"{RESULTS}/history.parquet",
        study=f"{RESULTS}/study.json",
    log:
        f"{LOGS}/aggregate.log",
    conda:
        "../../envs/ssa.yaml"
    shell:
        "python -m ssa aggregate {input.study:q} 2> {log:q}"


rule tables:
    input:
        children=rules.aggregate.output.children,
        history=rules.aggregate.output.history,
        study=rules.aggregate.output.study,
        code=modules("tables.py", "cells.py", "statistics.py", "methods.py"),
    output:
        report(
            f"paper_tables/{study.name}/table1_accuracy.csv",
            caption="../report/table1_accuracy.rst",
            category="Tables",
            labels={"table": "1", "shows": "accuracy by method and sparsity"},
        ),
        report(
            f"paper_tables/{study.name}/table2_ablation.csv",
            caption="../report/table2_ablation.rst",
            category="Tables",
            labels={"table": "2", "shows": "tau, annealing epochs and schedule"},
        ),
        report(
            f"paper_tables/{study.name}/table3_differences.csv",
            caption="../report/table3_differences.rst",
            category="Tables",
            labels={"table": "3", "shows": "paired differences to one-shot"},
        ),
        expand("paper_tables/{study}/{table}.{format}", study=study.name, table=TABLES, format=FORMATS[1:]),
    log:
        f"{LOGS}/tables.log",
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa tables {params.results:q} --out {params.out:q} 2> {log:q}"


rule claims:
    input:
        children=rules.aggregate.output.children,
        history=rules.aggregate.output.history,
        study=rules.aggregate.output.study,
        code=modules("claims.py", "claim_rules.py", "cells.py", "statistics.py"),
    output:
        verdicts=report(
            f"paper_tables/{study.name}/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims", "shows": "a verdict on each claim"},
        ),
        text=f"paper_tables/{study.name}/claims.md",
    log:
        f"{LOGS}/claims.log",
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa claims {params.results:q} --out {params.out:q} 2> {log:q}"


rule figures:
    input:
        children=rules.aggregate.output.children,
        history=rules.aggregate.output.history,
        study=rules.aggregate.output.study,
        code=modules(
            *("figures.py", "figure_style.py", "figure_panels.py", "figure_differences.py"),
            *("cells.py", "statistics.py", "methods.py"),
        ),
    output:
        accuracy=report(
            f"figures/{study.name}/accuracy_vs_sparsity.png",
            caption="../report/accuracy_vs_sparsity.rst",
            category="Figures",
            labels={"figure": "accuracy against sparsity"},
        ),
        curves=report(
            f"figures/{study.name}/learning_curves.png",
            caption="../report/learning_curves.rst",
            category="Figures",
            labels={"figure": "accuracy of the target subnetwork per epoch"},
        ),
        ablation=report(
            f"figures/{study.name}/ablation_heatmap.png",
            caption="../report/ablation_heatmap.rst",
            category="Figures",
            labels={"figure": "tau and annealing epochs"},
        ),
        laws=report(
            f"figures/{study.name}/keep_probability.png",
            caption="../report/keep_probability.rst",
            category="Figures",
            labels={"figure": "keep-probability over time"},
        ),
        forest=report(
            f"figures/{study.name}/forest_differences.png",
            caption="../report/forest_differences.rst",
            category="Figures",
            labels={"figure": "paired differences to one-shot"},
        ),
        print=expand("figures/{study}/{figure}.pdf", study=study.name, figure=FIGURES),
    log:
        f"{LOGS}/figures.log",
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(input.children, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m ssa figures {params.results:q} --out {params.out:q} 2> {log:q}"


rule page:
    input:
        rules.tables.output,
        claims=rules.claims.output.verdicts,
        figure=rules.figures.output.accuracy,
        code=modules("report.py", "templates/report.html.j2", "figures.py", "figure_style.py", "claim_rules.py"),
    output:
        report(
            page(),
            caption="../report/page.rst",
            category="Report",
            labels={"page": "the study on one page"},
        ),
    log:
        f"{LOGS}/page.log",
    conda:
        "../../envs/ssa.yaml"
    params:
        results=subpath(output[0], parent=True),
        tables=subpath(input.claims, parent=True),
        figures=subpath(input.figure, parent=True),
    shell:
        "python -m ssa report {params.results:q} --tables {params.tables:q} --figures {params.figures:q}"
        " --out {output:q} 2> {log:q}"
