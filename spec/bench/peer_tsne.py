"""scikit-learn's t-SNE of FOLDER/tsne_features.npy with its defaults, started at the principal components: writes
tsne_points.npy and prints the seconds."""
import sys
import time

import numpy as np
from sklearn.manifold import TSNE

folder = sys.argv[1]
features = np.load(folder + "/tsne_features.npy")
start = time.perf_counter()
points = TSNE(init="pca", random_state=0, n_jobs=-1).fit_transform(features)
print(f"seconds {time.perf_counter() - start:.2f}")
np.save(folder + "/tsne_points.npy", points.astype("f4"))
