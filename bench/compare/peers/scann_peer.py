"""ScaNN: a tree and anisotropic codes in memory, the best re-ranked by float32."""

import numpy as np
import scann


class Peer:
    api = "search_batched_parallel, its threads"
    # Candidates re-ranked, by the neighbours asked for.
    reordered = {1: 30, 10: 100}

    def __init__(self, parameters, search):
        self.parameters = parameters

    def build(self, base, directory, threads):
        vectors = np.memmap(base, np.uint8, "r", offset=8).reshape(-1, self.parameters["dimension"])
        leaves = min(self.parameters["leaves"], len(vectors) // 40)
        searcher = (
            scann.scann_ops_pybind.builder(np.asarray(vectors, np.float32), 10, "squared_l2")
            .tree(
                num_leaves=leaves,
                num_leaves_to_search=min(100, leaves),
                training_sample_size=min(self.parameters["sample"], len(vectors)),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .set_n_training_threads(threads)
            .build()
        )
        searcher.serialize(directory)

    def open(self, directory, threads):
        self.searcher = scann.scann_ops_pybind.load_searcher(directory)
        if hasattr(self.searcher, "set_num_threads"):
            self.searcher.set_num_threads(threads)

    def search(self, queries, k, setting, threads):
        ask = self.searcher.search_batched if threads == 1 else self.searcher.search_batched_parallel
        return ask(
            np.asarray(queries, np.float32),
            final_num_neighbors=k,
            leaves_to_search=int(setting),
            pre_reorder_num_neighbors=self.reordered.get(k, 10 * k),
        )[0]

    def search_one(self, query, k, setting):
        return self.searcher.search(
            np.asarray(query, np.float32),
            final_num_neighbors=k,
            leaves_to_search=int(setting),
            pre_reorder_num_neighbors=self.reordered.get(k, 10 * k),
        )[0]
