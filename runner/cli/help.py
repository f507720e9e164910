"""What ``python -m runner --help`` says; as YAML it would take longer to read than all the rest."""

from hydra.core.config_store import ConfigStore

from runner.config.schema import Config

HEADER = """\
opsweep: what a tensor operation costs here, where another device wins, and whether it is right.

python -m runner                                  one cell, a table on the screen
python -m runner op=add size=512x512 dtype=bfloat16
python -m runner +sweep=gpu                       the main sweep, CPU against the accelerator
python -m runner +sweep=gpu dtype=float32 size=256,1024
python -m runner -m op=matmul,add size=64,256     any grid of one's own
python -m runner +sweep=autograd                  the gradient of every operation
python -m runner +sweep=lesson                    tensors, gradients and times of the lesson
python -m runner case=lesson_2_3_chain_rule       the gradient of a formula, beside SymPy's
python -m runner +sweep=transfer                  moving bytes to the accelerator and back
python -m runner job=report run=outputs/...       rebuild the report from the CSVs alone
"""

TEMPLATE = """\
${hydra.help.header}
== Choices ==
Override with group=option, sweep with -m group=option,option (sweep itself: +sweep=option)

$APP_CONFIG_GROUPS
== Configuration ==
Override anything with key=value (seed=1, limit.time_s=5); conf/config.yaml says what each key is

$CONFIG
${hydra.help.footer}
"""

FOOTER = """\
Exit codes: 0 what could run ran and every check passed; 1 a cell failed or crashed, \
or a check failed;
2 the configuration is wrong, nothing was run; 3 something became slower or wrong, \
4 too little could be told (job=compare, job=ab, strict=true);
130 interrupted, what was finished is kept.
--quiet: only what was found is printed. --hydra-help explains Hydra's own flags."""

HELP = {"app_name": "opsweep", "header": HEADER, "template": TEMPLATE, "footer": FOOTER}


def register() -> None:
    """Make the schema and the help text known to Hydra."""
    store = ConfigStore.instance().store
    store(name="schema", node=Config, provider="opsweep")
    store(group="hydra/help", name="opsweep", node=HELP, provider="opsweep")
