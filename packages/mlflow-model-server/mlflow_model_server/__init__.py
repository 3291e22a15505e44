"""The server of Seatrial's model-serving images: MLflow's scoring app, run fast and honestly.

The container's first process supervises (`mlflow_entrypoint.supervisor`). Its child manages
(`manager`): it forks one front (`front`, `app`, `dispatcher`), which speaks HTTP and loads neither
MLflow nor NumPy, then loads MLflow once, and forks the workers (`worker`), each of which loads the
model. The front hands every request to a worker through a socket pair of theirs (`frames`), so that
it still has the request when a worker dies, and gives it to another one.
"""
