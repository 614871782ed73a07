"""What is tried of each setting, as plain values: drawn, enumerated, and turned into changes of a config.

A sample has a value a setting. What comes from a list of choices stands in it as JSON text: a choice may be a list
of units, which a sampler takes for no value.
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

#: Combinations that are tried in mind before the search, to tell of those that contradict each other.
_LOOKED_AT = 200


def changes_of(sample: Sample, domains: Mapping[str, Domain]) -> dict[str, Any]:
    """A sample as settings.

    Args:
        sample: A value a setting; numbers may lie beyond the ends, where population based training has gone.
        domains: What is tried of each setting.

    Returns:
        Settings by dotted key, as `override` takes them.
    """
    return {key: _setting(sample[key], domain) for key, domain in domains.items()}


def _setting(value: Any, domain: Domain) -> Any:
    kind, given = domain
    if kind == "choice":
        return json.loads(value)
    low, high = given[:2]
    inside = min(max(float(value), low), high)
    values = values_of(domain)
    # Samplers give 0.30000000000000004, and floats for whole numbers.
    return float(inside) if values is None else min(values, key=lambda one: abs(one - inside))


def trial_config(config: Config, sample: Sample, statistics: DatasetStatistics) -> ResolvedConfig:
    """The config of a trial, resolved.

    Args:
        config: The config of the search; settings may be left out.
        sample: What the trial tries.
        statistics: Of the data.

    Returns:
        The config. It leaves GPUs to what the trial is given.

    Raises:
        UserError: If its settings contradict each other.
    """
    changes = {"resources.gpus": "auto"} | changes_of(sample, config.search.domains)
    return resolve(override(config, changes), statistics)


def own_sample(config: Config, statistics: DatasetStatistics) -> tuple[Sample, list[str]]:
    """The config's own settings as a sample.

    Args:
        config: The config of the search.
        statistics: Of the data.

    Returns:
        The sample, and the settings that lie outside of what is tried, each with what is taken in its place.
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
    """Random samples, independent of each other.

    Args:
        config: The config of the search.
        number: How many.
        seed: Their seed.

    Returns:
        The samples.
    """
    generator = random.Random(seed)  # noqa: S311 (no secret)
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
    """Every combination of settings, in order."""
    domains = config.search.domains
    values = [labels_of(one) if one[0] == "choice" else list(values_of(one) or ()) for one in domains.values()]
    return [dict(zip(domains, combination, strict=True)) for combination in itertools.product(*values)]


def contradictions(config: Config, statistics: DatasetStatistics) -> str:
    """What to say of combinations that contradict each other, found by drawing some.

    Args:
        config: The config of the search.
        statistics: Of the data.

    Returns:
        A sentence; empty where none was found.

    Raises:
        UserError: If all do.
    """
    samples, problems = draw_samples(config, _LOOKED_AT, config.search.seed), []
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
