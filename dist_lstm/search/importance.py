"""The importance of each setting that was searched."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dist_lstm.config.search import Domain, labels_of

#: Fewer trials than this are too few for an estimate.
_FEWEST = 8


def distribution_of(domain: Domain) -> Any:
    """The values of a setting as a distribution of Optuna; choices are represented by their labels."""
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
    """The label of a choice; `value` is text, a number, or JSON of anything else, as in the table of trials."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if plain in labels_of(domain) and not isinstance(domain[1][0], str) else json.dumps(plain)


def importance(trials: pd.DataFrame, domains: Mapping[str, Domain]) -> dict[str, float] | None:
    """Estimate how much each setting contributes to the difference between the best trials and the others.

    Source: Watanabe, Bansal & Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces", IJCAI 2023; as implemented by Optuna.

    Args:
        trials: One row per trial: `score`, and one column per setting.
        domains: The domain of each setting.

    Returns:
        Shares by setting that sum to 1, the largest first; None if fewer than 8 trials have a score, or if all
        scores are equal.
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
    # Compares the best quarter with the complete search space, not with the values that a sampler preferred.
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
    result = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(sorted(result.items(), key=lambda pair: -pair[1]))
