# Training leaves its results in results/parents and results/children, which studies share and no rule may delete;
# Snakemake sees a mark for each finished job. With exec a signal reaches the job itself, not a shell around it.


# Where Snakemake runs, which on a cluster has the network.
rule data:
    input:
        ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/{DATA_MARK}.done"),
    log:
        f"{LOGS}/data.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        root=DATA_ROOT,
    shell:
        "python -m ssa data {input:q} --data-root {params.root:q} 2> {log:q}"


rule parent:
    input:
        data=ancient(rules.data.output),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/parents/{{parent}}.done"),
    log:
        f"{LOGS}/parents/{{parent}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: int(config.get("threads", 1))
    resources:
        gpu=GPU,
        mem_mb=training_memory,
        runtime=parent_minutes,
    params:
        root=DATA_ROOT,
    shell:
        "exec python -m ssa parent {input.study:q} --parent {wildcards.parent:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"


rule masks:
    input:
        parent=ancient(rules.parent.output),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/masks/{{parent}}.done"),
    log:
        f"{LOGS}/masks/{{parent}}.log",
    conda:
        "../../envs/ssa.yaml"
    params:
        root=DATA_ROOT,
    shell:
        "python -m ssa masks {input.study:q} --parent {wildcards.parent:q} --data-root {params.root:q} 2> {log:q}"


rule children:
    input:
        masks=ancient(rules.masks.output),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/jobs/{{parent}}/{{job}}.done"),
    log:
        f"{LOGS}/children/{{parent}}/{{job}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: int(config.get("threads", 1))
    resources:
        gpu=GPU,
        mem_mb=training_memory,
        runtime=children_minutes,
    params:
        root=DATA_ROOT,
    shell:
        "exec python -m ssa children {input.study:q} --parent {wildcards.parent:q} --job {wildcards.job:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"


rule ensemble:
    input:
        parents=marks_of_members,
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/ensembles/{{ensemble}}.done"),
    log:
        f"{LOGS}/ensembles/{{ensemble}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: int(config.get("threads", 1))
    resources:
        gpu=GPU,
        mem_mb=training_memory,
        runtime=ensemble_minutes,
    params:
        root=DATA_ROOT,
    shell:
        "exec python -m ssa ensemble {input.study:q} --ensemble {wildcards.ensemble:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"
