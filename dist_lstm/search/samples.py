"""Samples of the search space: drawn, enumerated, and converted to changes of a config.

A sample holds one value for each setting. A choice is held as JSON text, since it may be a list, such as of units,
which samplers do not accept as a value.
"""

import itertools
import json
import math
import random
from collections.abc import Mapping
from typing import Any

from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.load import flatten, override
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import Config
from dist_lstm.config.search import Domain, labels_of, values_of
from dist_lstm.errors import UserError

Sample = dict[str, Any]

#: Combinations that are checked for contradictions before the search.
_CHECKED = 200


def changes_of(sample: Sample, domains: Mapping[str, Domain]) -> dict[str, Any]:
    """Convert a sample to settings.

    Args:
        sample: One value for each setting; numbers may lie outside of the domain, as population based training may
            leave it, and are moved to its nearer end.
        domains: The domain of each setting.

    Returns:
        Settings by dotted key, as `override` takes them.

    Example:
        >>> domains = {"model.units": ("choice", ([4], [8])), "model.dropout": ("uniform", (0.0, 0.5))}
        >>> changes_of({"model.units": "[8]", "model.dropout": 0.6}, domains)
        {'model.units': [8], 'model.dropout': 0.5}
    """
    return {key: _setting(sample[key], domain) for key, domain in domains.items()}


def _setting(value: Any, domain: Domain) -> Any:
    kind, given = domain
    if kind == "choice":
        return json.loads(value)
    low, high = given[:2]
    inside = min(max(float(value), low), high)
    values = values_of(domain)
    # Samplers return 0.30000000000000004 for 0.3, and floats for integers.
    return float(inside) if values is None else min(values, key=lambda one: abs(one - inside))


def trial_config(config: Config, sample: Sample, statistics: DatasetStatistics) -> ResolvedConfig:
    """Resolve the config of a trial.

    Args:
        config: The config of the search; settings may be left out.
        sample: The values that the trial tries.
        statistics: Statistics of the data.

    Returns:
        The config, with `resources.gpus: auto`: a trial uses the GPUs that Ray assigns to it.

    Raises:
        UserError: If its settings contradict each other.
    """
    changes = {"resources.gpus": "auto"} | changes_of(sample, config.search.domains)
    return resolve(override(config, changes), statistics)


def own_sample(config: Config, statistics: DatasetStatistics) -> tuple[Sample, list[str]]:
    """Express the config's own settings as a sample.

    Args:
        config: The config of the search.
        statistics: Statistics of the data.

    Returns:
        The sample, and one text per setting whose own value is outside of its domain: the setting, the value that
        is used, and its own.
    """
    own, sample, outside = dict(flatten(resolve(config, statistics))), {}, []
    for key, domain in config.search.domains.items():
        kind, given = domain
        value = list(own[key]) if isinstance(own[key], tuple) else own[key]
        if kind == "choice":
            labels = labels_of(domain)
            near = [one for one in labels if json.loads(one) == value]
            sample[key] = near[0] if near else labels[0]
            taken = json.loads(sample[key])
        else:
            number = isinstance(value, int | float)
            sample[key] = taken = _setting(value if number else math.sqrt(abs(given[0] * given[1])), domain)
            near = number and math.isclose(taken, value)
        if not near:
            outside.append(f"{key} {taken} for its own {value}")
    return sample, outside


def draw_samples(config: Config, number: int, seed: int) -> list[Sample]:
    """Draw independent random samples.

    Args:
        config: The config of the search.
        number: Number of samples.
        seed: Seed of the random generator.

    Returns:
        The samples.
    """
    generator = random.Random(seed)  # noqa: S311 (not for security)
    return [
        {key: _draw(domain, generator) for key, domain in config.search.domains.items()} for _ in range(number)
    ]


def _draw(domain: Domain, generator: random.Random) -> Any:
    kind, given = domain
    if kind == "choice":
        return generator.choice(labels_of(domain))
    if kind == "loguniform":
        return math.exp(generator.uniform(*map(math.log, given)))
    values = values_of(domain)
    return generator.uniform(*given) if values is None else generator.choice(values)


def all_samples(config: Config) -> list[Sample]:
    """Every combination of settings; the values of the last setting vary fastest."""
    domains = config.search.domains
    values = [labels_of(one) if one[0] == "choice" else list(values_of(one) or ()) for one in domains.values()]
    return [dict(zip(domains, combination, strict=True)) for combination in itertools.product(*values)]


def contradictions(config: Config, statistics: DatasetStatistics) -> str:
    """Estimate from random samples how many combinations of settings contradict each other.

    Args:
        config: The config of the search.
        statistics: Statistics of the data.

    Returns:
        A sentence for the user; empty if no sample has a contradiction.

    Raises:
        UserError: If every sample has one.
    """
    samples, problems = draw_samples(config, _CHECKED, config.search.seed), []
    for sample in samples:
        try:
            trial_config(config, sample, statistics)
        except UserError as error:
            problems.append(str(error))
    if len(problems) == len(samples):
        raise UserError(
            "search.space", f"its settings contradict each other in every combination, as in: {problems[0]}"
        )
    if not problems:
        return ""
    share = len(problems) / len(samples)
    return f"about {share:.0%} of the combinations contradict each other and will fail, as in: {problems[0]}"
