"""SPANN, from SPTAG's wheel (1.6.8, Python 3.9 only). Heads in memory with their graph, lists on the disk, read
with O_DIRECT. Heads are base vectors, left out of the lists. Its batched call starts as many threads as the
machine has processors, whatever it is told: the processors that it may use are what bounds it here."""

import os

import numpy as np
from sptag import SPTAG


class Peer:
    api = "BatchSearch, a thread a processor"

    def __init__(self, parameters, search):
        self.parameters = parameters

    def build(self, base, directory, threads):
        count, dimension = (int(x) for x in np.fromfile(base, np.uint32, 2))
        made = self.parameters
        sections = {
            "Base": dict(
                DistCalcMethod="L2",
                IndexAlgoType="BKT",
                ValueType="UInt8",
                Dim=dimension,
                VectorPath=os.path.abspath(base),
                VectorType="DEFAULT",
                VectorSize=count,
                IndexDirectory=os.path.abspath(directory),
                HeadIndexFolder="head",
                SSDIndex="lists.bin",
            ),
            "SelectHead": dict(
                isExecute="true",
                NumberOfThreads=threads,
                Ratio=made["heads"],
                SelectThreshold=0,
                SplitFactor=0,
                SplitThreshold=0,
            ),
            "BuildHead": dict(isExecute="true", NumberOfThreads=threads),
            "BuildSSDIndex": dict(
                isExecute="true",
                BuildSsdIndex="true",
                NumberOfThreads=threads,
                InternalResultNum=made["candidates"],
                ReplicaCount=made["replicas"],
                PostingPageLimit=made["pages"],
                SearchPostingPageLimit=made["pages"],
                TmpDir=os.path.abspath(directory),
                UseDirectIO="true",
                SearchThreadNum=threads,
            ),
        }
        index = SPTAG.AnnIndex("SPANN", "UInt8", dimension)
        for section, values in sections.items():
            for name, value in values.items():
                index.SetBuildParam(name, str(value), section)
        if not index.BuildSPANN(False) or not index.Save(os.path.abspath(directory)):
            raise RuntimeError("SPTAG could not build")

    def open(self, directory, threads):
        self.index = SPTAG.AnnIndex.Load(os.path.abspath(directory))
        self.asked = None

    def ask(self, setting):
        if self.asked != setting:
            self.index.SetSearchParam("SearchInternalResultNum", str(int(setting)), "BuildSSDIndex")
            self.asked = setting

    def search(self, queries, k, setting, threads):
        self.ask(setting)
        found = self.index.BatchSearch(np.ascontiguousarray(queries).tobytes(), len(queries), k, False)
        return np.array(found[0], np.int64).reshape(len(queries), k)

    def search_one(self, query, k, setting):
        self.ask(setting)
        return np.array(self.index.Search(query.tobytes(), k)[0], np.int64)
