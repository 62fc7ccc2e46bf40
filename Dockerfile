# The studio in a container. Pictures, jobs and downloaded models live in /data.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home studio && mkdir /data && chown studio /data
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY --chown=studio . .
USER studio
ENV STUDIO_HOST=0.0.0.0 STUDIO_HOME=/data/home STUDIO_CACHE=/data/cache HF_HOME=/data/huggingface
VOLUME /data
EXPOSE 7860
CMD ["python", "app.py"]
