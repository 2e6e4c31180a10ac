"""DiskANN's disk index (diskannpy 0.7.0). Reads with O_DIRECT through libaio; no node is cached."""

import os

import diskannpy
import numpy as np


class Peer:
    api = "batch_search, its threads"

    def __init__(self, parameters, search):
        self.parameters, self.beam = parameters, search.get("beam", 4)

    def build(self, base, directory, threads):
        count = int(np.fromfile(base, np.uint32, 1)[0])
        # The memory allowed for searching decides the bytes of a code: floor(memory / vectors).
        memory = count * (self.parameters["code_bytes"] + 0.5) / 2**30
        # Its own copy of the base goes away again: the index holds the vectors.
        copy = os.path.join(directory, "base.bin")
        os.symlink(os.path.abspath(base), copy)
        diskannpy.build_disk_index(
            data=copy,
            distance_metric="l2",
            index_directory=directory,
            complexity=self.parameters["complexity"],
            graph_degree=self.parameters["degree"],
            search_memory_maximum=memory,
            build_memory_maximum=16,
            num_threads=threads,
            vector_dtype=np.uint8,
        )
        os.unlink(copy)

    def open(self, directory, threads):
        # Opened for one thread it waits for ever (its loader wants two contexts); searches use `threads`.
        self.index = diskannpy.StaticDiskIndex(
            index_directory=directory,
            num_threads=max(threads, 2),
            num_nodes_to_cache=0,
            distance_metric="l2",
            vector_dtype=np.uint8,
            dimensions=self.parameters["dimension"],
        )

    def search(self, queries, k, setting, threads):
        found = self.index.batch_search(
            queries, k_neighbors=k, complexity=int(setting), num_threads=threads, beam_width=self.beam
        )
        return found.identifiers

    def search_one(self, query, k, setting):
        found = self.index.search(query, k_neighbors=k, complexity=int(setting), beam_width=self.beam)
        return found.identifiers
