# The replication of Stochastic Subnetwork Annealing, end to end. Rules declare; the package does.
#
#   snakemake --cores N                                      the paper's study (config/paper.yaml)
#   snakemake --cores N --configfile config/reduced.yaml     the same in small, for a CPU

from snakemake.utils import min_version

min_version("9.19")


include: "workflow/rules/common.smk"


onstart:
    lock_study()
    for path, text in NOTED.items():
        provenance.note(path, text)
    say_how_far()
    start_following()


onsuccess:
    finish_following()


onerror:
    finish_following()


include: "workflow/rules/training.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/tracking.smk"


rule all:
    default_target: True
    input:
        f"{SOURCE}/children.csv",
        rules.report.output,
