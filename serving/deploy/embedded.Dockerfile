# The embedded server with ScaNN's ops: the short way to serve a bundle with `export.index: scann` or `auto`.
#
#     docker build -t tfdnc-embedded -f serving/deploy/embedded.Dockerfile .        (in the root of the repository)
#     docker run -p 127.0.0.1:8500:8500 -v $PWD/models:/models:ro tfdnc-embedded --model_base_path=/models/tfdnc
#
# It takes tensorflow_model_server's flags, so the files in this folder work with it unchanged.
FROM python:3.11-slim
COPY setup.py pyproject.toml README.md /src/
COPY tfdnc /src/tfdnc
COPY beam_jobs /src/beam_jobs
COPY serving /src/serving
RUN pip install --no-cache-dir "/src[serve]"
RUN useradd --create-home serving
USER serving
WORKDIR /home/serving
EXPOSE 8500 8501
ENTRYPOINT ["python", "-m", "serving", "--host=0.0.0.0", "--port=8500", "--rest_api_port=8501", "--model_name=tfdnc"]
