"""hnswlib: the graph in memory, vectors as float32 (it has no bytes)."""

import os

import hnswlib
import numpy as np


class Peer:
    api = "knn_query of a block, its threads"

    def __init__(self, parameters, search):
        self.parameters = parameters

    def build(self, base, directory, threads):
        vectors = np.memmap(base, np.uint8, "r", offset=8).reshape(-1, self.parameters["dimension"])
        index = hnswlib.Index(space="l2", dim=vectors.shape[1])
        index.init_index(
            max_elements=len(vectors),
            ef_construction=self.parameters["complexity"],
            M=self.parameters["links"],
        )
        for start in range(0, len(vectors), 100_000):
            index.add_items(np.asarray(vectors[start : start + 100_000], np.float32), num_threads=threads)
        index.save_index(os.path.join(directory, "index.hnsw"))

    def open(self, directory, threads):
        self.index = hnswlib.Index(space="l2", dim=self.parameters["dimension"])
        self.index.load_index(os.path.join(directory, "index.hnsw"))

    def search(self, queries, k, setting, threads):
        # ef is never below k.
        self.index.set_ef(max(int(setting), k))
        return self.index.knn_query(np.asarray(queries, np.float32), k=k, num_threads=threads)[0]

    def search_one(self, query, k, setting):
        return self.search(query[None], k, setting, 1)[0]
