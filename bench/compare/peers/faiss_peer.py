"""faiss: inverted files in memory, as float32 or as the bytes themselves (QT_8bit_direct)."""

import os

import faiss
import numpy as np


class Peer:
    api = "search of a block, OpenMP"

    def __init__(self, parameters, search):
        self.parameters = parameters

    def build(self, base, directory, threads):
        faiss.omp_set_num_threads(threads)
        vectors = np.memmap(base, np.uint8, "r", offset=8).reshape(-1, self.parameters["dimension"])
        dimension, lists = vectors.shape[1], min(self.parameters["lists"], len(vectors) // 40)
        quantizer = faiss.IndexFlatL2(dimension)
        if self.parameters["codes"] == "flat":
            index = faiss.IndexIVFFlat(quantizer, dimension, lists)
        else:
            index = faiss.IndexIVFScalarQuantizer(
                quantizer, dimension, lists, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
            )
        index.train(np.asarray(vectors, np.float32))
        for start in range(0, len(vectors), 100_000):
            index.add(np.asarray(vectors[start : start + 100_000], np.float32))
        faiss.write_index(index, os.path.join(directory, "index.faiss"))

    def open(self, directory, threads):
        faiss.omp_set_num_threads(threads)
        self.index = faiss.read_index(os.path.join(directory, "index.faiss"))

    def search(self, queries, k, setting, threads):
        self.index.nprobe = int(setting)
        return self.index.search(np.asarray(queries, np.float32), k)[1]

    def search_one(self, query, k, setting):
        return self.search(query[None], k, setting, 1)[0]
