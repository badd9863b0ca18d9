"""Steps of the first job between filtered buckets and files: users are joined, and values of categories counted."""

from collections.abc import Iterator

import apache_beam as beam

from beam_jobs.input_values import count_values, has_values, write_values
from beam_jobs.packing import unpack
from beam_jobs.shuffle import SetAside
from beam_jobs.user_details import ReadUsers, UsersFile, join_users
from beam_jobs.vocabulary import AddItemCounts
from tfdnc.contracts.data_config import DataConfig


def with_inputs(
    pipeline: beam.Pipeline,
    sequences: beam.PCollection,
    config: DataConfig,
    users: UsersFile | None,
    output: str,
    scratch: str | None,
) -> tuple[beam.PCollection, list[beam.PCollection]]:
    """Joins the features of users to packed sequences by bucket, and writes the known values of categories.

    Returns:
        The sequences, and collections of further counts.
    """
    # Values are counted before tables are set aside: a step of the same stage could not read these yet.
    whole, figures = sequences, []
    sequences = sequences | "SetSequencesAside" >> SetAside(scratch)
    if users is not None:
        read = (
            pipeline
            | "UserFile" >> beam.Create([None])
            | "ReadUsers" >> beam.ParDo(ReadUsers(users, config.num_shards, output)).with_outputs()
        )
        joined = (
            {"sequences": sequences, "users": read.users | "SetUsersAside" >> SetAside(scratch)}
            | "ByBucket" >> beam.CoGroupByKey()
            | "JoinUsers" >> beam.FlatMap(join_users, users, config.session_gap is not None).with_outputs()
        )
        # Not set aside again, because the join and what follows are one stage.
        whole = sequences = joined.sequences
        figures = [read.figures, joined.figures]
    if has_values(config):
        known = (
            whole
            | "CountValues" >> beam.FlatMap(count_of_bucket)
            | "AddValues" >> beam.CombineGlobally(AddItemCounts())
            | "WriteValues" >> beam.Map(write_values, config, output)
        )
        figures.append(known)
    return sequences, figures


def count_of_bucket(element: tuple[int, bytes]) -> Iterator[bytes]:
    """Yields the packed counts of values of one (bucket, packed sequences), see `count_values`."""
    return count_values(unpack(element[1]))
