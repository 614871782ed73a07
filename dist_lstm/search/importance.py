"""Which of the settings that were searched matter."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dist_lstm.config.search import Domain, labels_of

#: Fewer trials say nothing.
_FEWEST = 8


def distribution_of(domain: Domain) -> Any:
    """What is tried of a setting, as Optuna says it; choices are their labels."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kind, given = domain
    if kind == "choice":
        return CategoricalDistribution(labels_of(domain))
    if kind == "randint":
        return IntDistribution(int(given[0]), int(given[1]))
    low, high = map(float, given[:2])
    return FloatDistribution(
        low, high, log=kind == "loguniform", step=float(given[2]) if kind == "quniform" else None
    )


def label_of(value: Any, domain: Domain) -> str:
    """The label of a choice, as a column of the trials holds it: text, a number, or JSON of anything else."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if plain in labels_of(domain) and not isinstance(domain[1][0], str) else json.dumps(plain)


def importance(trials: pd.DataFrame, domains: Mapping[str, Domain]) -> dict[str, float] | None:
    """How much of what tells the better trials from the others lies in each setting.

    Source: Watanabe, Bansal & Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces", IJCAI 2023; as Optuna has it.

    Args:
        trials: One row a trial: `score`, and a column a setting.
        domains: What was tried of each setting.

    Returns:
        Shares by setting, the largest first, that add up to 1; None where fewer than eight trials have a score, or
        all have the same.
    """
    scored = trials[trials["score"].notna()]
    if len(scored) < _FEWEST or scored["score"].min() == scored["score"].max():
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {key: distribution_of(domain) for key, domain in domains.items()}
    for _, row in scored.iterrows():
        params = {
            key: label_of(row[key], domain) if domain[0] == "choice" else row[key]
            for key, domain in domains.items()
        }
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=float(row["score"]))
        )
    # What tells the best quarter from all that could have been tried, not from what a sampler preferred.
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
    result = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(sorted(result.items(), key=lambda pair: -pair[1]))
