import Router
import Vectors

/// A small world to learn: planted base rows in partitions with sub-clusters, and queries near base rows with
/// their true neighbours.
struct PredictorFixture {
    let centroids: CentroidIndex
    let subClusters: SubClusters
    let pairs: TrainingPairs
    let homes: Homes

    static let neighbourCount = 3

    /// - Parameter replicas: every third vector also lives in its second partition.
    init(
        base count: Int = 600, queries queryCount: Int = 640, partitions: Int = 12, perPartition: Int = 3,
        dimension: Int = 8, elementType: ElementType = .f32, replicas: Bool = false, seed: UInt64 = 5
    ) {
        let base = plantedRows(
            clusters: 30, perCluster: count / 30, dimension: dimension, elementType: elementType, seed: seed,
            spread: 22
        ).rows
        let means = KMeans(partitions: partitions, seed: seed, threads: 1).train(base)
        centroids = CentroidIndex(
            centroids: means.centroids, beta: CentroidIndex.defaultBeta(meanDistance: means.meanDistance))
        let nearest = NearestCentroids(scanning: means.centroids).nearest(2, base, threads: 1)
        homes = Homes(
            lists: (0..<base.count).map { row in
                let both = Array(nearest.partitions[2 * row..<2 * row + 2])
                return replicas && row % 3 == 0 ? both : [both[0]]
            })
        var starts: [UInt32] = [0]
        var (centers, counts, spreads): ([VectorMatrix], [Float], [Float]) = ([], [], [])
        for partition in 0..<partitions {
            let members = (0..<UInt32(base.count)).filter {
                nearest.partitions[2 * Int($0)] == UInt32(partition)
            }
            let rows = base.gather(members)
            let part = KMeans(partitions: min(perPartition, rows.count), seed: seed, threads: 1).train(rows)
                .centroids
            let assigned = NearestCentroids(scanning: part).assign(rows, threads: 1)
            for center in 0..<part.count {
                let inside = assigned.partitions.indices.filter { assigned.partitions[$0] == UInt32(center) }
                counts.append(Float(inside.count))
                spreads.append(inside.reduce(0) { $0 + assigned.distances[$1] } / Float(max(inside.count, 1)))
            }
            centers.append(part)
            starts.append(starts[partition] + UInt32(part.count))
        }
        subClusters = SubClusters(
            starts: starts, centers: VectorMatrix.joined(centers)!, counts: counts, spreads: spreads)
        var random = SeededRandom(seed: seed, stream: 1)
        let floats = base.converted(to: .f32)
        let moved = VectorMatrix(count: queryCount, dimension: dimension, elementType: .f32)
        for row in 0..<queryCount {
            let from = floats.floatRow(random.below(base.count))
            for column in 0..<dimension {
                moved.floatRow(row)[column] = from[column] + 8 * Float(random.gaussian())
            }
        }
        let queries = moved.converted(to: elementType)
        let neighbours = NearestCentroids(scanning: base).nearest(Self.neighbourCount, queries, threads: 1)
            .partitions
        pairs = TrainingPairs(
            queries: queries, neighbours: neighbours, neighbourCount: Self.neighbourCount,
            heldOutCount: queryCount / 5)
    }

    func model(_ form: PredictorForm, candidates: Int = 6, sharesBeta: Bool = false) -> TrainablePredictor {
        TrainablePredictor(
            form: form, centroids: centroids, candidateCount: candidates, beta: centroids.beta,
            subClusters: form.base == .prototypes ? subClusters : nil, sharesBeta: sharesBeta,
            inputs: pairs.queries,
            seed: 11)
    }

    func trainer(
        _ model: TrainablePredictor, epochs: Int = 3, threads: Int = 1, targets: Int = 1, noise: Float = 0,
        rate: Float = 1
    ) -> PredictorTrainer {
        var options = TrainingOptions()
        options.epochs = epochs
        options.batchSize = 512
        options.threads = threads
        options.targets = targets
        options.noise = noise
        options.patience = 100
        options.seed = 3
        options.rate = rate
        return PredictorTrainer(model: model, pairs: pairs, homes: homes, options: options)
    }
}

/// Every form that a predictor can have.
let predictorForms: [PredictorForm] = [
    PredictorForm(base: .distance), PredictorForm(base: .prototypes),
    PredictorForm(base: .none, hidden: [10, 7]),
    PredictorForm(base: .distance, hidden: [10, 7]), PredictorForm(base: .prototypes, hidden: [10, 7]),
]

func values(_ model: TrainablePredictor) -> [[UInt32]] {
    model.tensors.map { tensor in (0..<tensor.count).map { tensor.values[$0].bitPattern } }
}
