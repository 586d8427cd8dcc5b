# Logging to W&B: a process beside the workflow follows the records, and uploading is a stage of its own.


rule sync:
    input:
        ancient(STUDY_FILE),
    log:
        f"{LOGS}/sync.log",
    localrule: True
    conda:
        "../../envs/ssa.yaml"
    shell:
        "python -m ssa sync {input:q} 2> {log:q}"
