"""Pages of metrics as Prometheus' own parser reads them."""

from prometheus_client.parser import text_string_to_metric_families


def samples(page):
    """Returns the samples of a page as {(name, labels): value}, and the types of its metrics."""
    families = list(text_string_to_metric_families(page))
    values = {
        (sample.name.removesuffix("_total"), labels(**sample.labels)): sample.value  # the parser's own suffix
        for family in families
        for sample in family.samples
    }
    return values, {family.name: family.type for family in families}


def labels(**values):
    return tuple(sorted(values.items()))
