"""A version a day as an Airflow DAG: copy it into the folder of DAGs. Airflow is not a dependency of tfdnc."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG(
    dag_id="tfdnc_daily",
    start_date=datetime(2026, 1, 1),
    schedule="0 12 * * *",
    catchup=False,
    max_active_runs=1,  # the warm start needs the run of the day before
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
):
    # A failed condition of the publish fails the task, and the served version stays.
    BashOperator(
        task_id="train_compare_publish",
        bash_command="/srv/tfdnc/serving/deploy/daily.sh $WAY $DAY ",
        env={
            "WAY": "{{ 'full' if data_interval_end.weekday() == 6 else 'warm' }}",
            "DAY": "{{ data_interval_end | ds }}",
            "CONFIG": "/srv/mine.yaml",
            "EVENTS": "/data/events",
            "RUNS": "/data/runs",
            "MODELS": "/models/tfdnc",
        },
        append_env=True,
    )
