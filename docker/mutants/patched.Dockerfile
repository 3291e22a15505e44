# An image with a module changed, as the file in patches/ says.
FROM unbroken
ARG PATCH
USER 0
RUN --mount=type=bind,source=apply.py,target=/tmp/apply.py \
    --mount=type=bind,source=patches/${PATCH}.toml,target=/tmp/patch.toml \
    ["/opt/mlflow/bin/python", "/tmp/apply.py"]
USER 65532:65532
