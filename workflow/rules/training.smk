# Training leaves its results in results/parents and results/children, which studies share and no rule may delete;
# Snakemake sees a mark for each finished job, and where what it stands for was lost, wants another. With exec a signal
# reaches the job itself, not a shell around it.


# Where Snakemake runs, which on a cluster has the network.
rule data:
    input:
        ancient(STUDY_FILE),
    output:
        touch(MARKS.of_data()),
    log:
        f"{LOGS}/data.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    params:
        root=data_root,
    shell:
        "python -m ssa data {input:q} --data-root {params.root:q} 2> {log:q}"


rule parent:
    input:
        data=ancient(rules.data.output),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/parents/{{parent}}{{again}}.done"),
    log:
        f"{LOGS}/parents/{{parent}}{{again}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: OPTIONS.threads
    resources:
        gpu=GPU,
        mem_mb=ATTEMPTS.memory,
        runtime=ATTEMPTS.parent_minutes,
    params:
        root=data_root,
    shell:
        "exec python -m ssa parent {input.study:q} --parent {wildcards.parent:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"


rule masks:
    input:
        data=ancient(rules.data.output),
        parent=ancient(before_masks),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/masks/{{parent}}{{again}}.done"),
    log:
        f"{LOGS}/masks/{{parent}}{{again}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: OPTIONS.threads
    resources:
        gpu=GPU if ONE_MACHINE else 0,
    params:
        root=data_root,
    shell:
        "exec python -m ssa masks {input.study:q} --parent {wildcards.parent:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"


rule children:
    input:
        data=ancient(rules.data.output),
        masks=ancient(before_children),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/jobs/{{parent}}/{{job}}{{again}}.done"),
    log:
        f"{LOGS}/children/{{parent}}/{{job}}{{again}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: OPTIONS.threads
    resources:
        gpu=GPU,
        mem_mb=ATTEMPTS.memory,
        runtime=ATTEMPTS.children_minutes,
    params:
        root=data_root,
        also=ensembles_too,
    shell:
        "exec python -m ssa children {input.study:q} --parent {wildcards.parent:q} --job {wildcards.job:q} {params.also}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"


rule ensemble:
    input:
        data=ancient(rules.data.output),
        parents=ancient(before_ensemble),
        study=ancient(STUDY_FILE),
    output:
        touch(f"{RESULTS}/marks/ensembles/{{ensemble}}{{again}}.done"),
    log:
        f"{LOGS}/ensembles/{{ensemble}}{{again}}.log",
    conda:
        "../../envs/ssa.yaml"
    threads: OPTIONS.threads
    resources:
        gpu=GPU,
        mem_mb=ATTEMPTS.memory,
        runtime=ATTEMPTS.ensemble_minutes,
    params:
        root=data_root,
    shell:
        "exec python -m ssa ensemble {input.study:q} --ensemble {wildcards.ensemble:q}"
        " --data-root {params.root:q} --threads {threads} 2> {log:q}"
