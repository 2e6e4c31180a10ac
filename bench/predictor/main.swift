import Foundation
import Index
import Router
import Storage
import Vectors

// Quick trial: predictor INDEX LEARN QUERIES TRUTH KIND PROTOTYPES LEARNCOUNT EPOCHS
let a = CommandLine.arguments
let index = try DiskIndex(path: a[1])
let learn = try VectorFile.open(path: a[2])
let queries = try VectorFile.open(path: a[3]).readAll()
let truth = try TruthFile.read(path: a[4])
nonisolated(unsafe) let clock = ContinuousClock()
nonisolated(unsafe) var mark = clock.now
func lap(_ name: String) {
    print(String(format: "%6.1f s  ", mark.duration(to: clock.now) / .seconds(1)) + name)
    mark = clock.now
}
var parameters = PredictorParameters()
parameters.kind = RouterKind(rawValue: a[5])!
parameters.prototypes = Double(a[6])!
parameters.training.epochs = Int(a[8])!
var learnParameters = LearnParameters()
learnParameters.learnCount = Int(a[7])!
let pairs = try index.learnPairs(learn: learn, parameters: learnParameters)
lap("labels, right \(pairs.labelAccuracy)")
let homes = try index.homes()
lap("homes")
let (predictor, report) = try index.trainPredictor(pairs: pairs.pairs, homes: homes, parameters: parameters)
lap("trained \(report) resident \(predictor.residentByteCount) temperature \(predictor.inverseTemperature)")
for (name, router) in [("centroid", index.router), ("predictor", predictor as any PartitionRouter)] {
    let routes = index.routes(of: queries, router: router, threads: 2)
    lap("route \(queries.count) by \(name)")
    let account = FetchAccount(index: index, routes: routes, neighbours: truth.ids, depth: truth.k, homes: homes)
    let points = account.points(account.lambdaLadder(cost: .vectors))
    var line = name
    for (k, recalls) in [(1, [0.8, 0.9, 0.95, 0.99]), (10, [0.9, 0.95])] {
        line += "  @\(k):"
        for recall in recalls {
            line += String(format: " %.0f", FetchAccount.cost(of: points, k: k, recall: recall) { $0.vectors } ?? -1)
        }
    }
    print(line)
}
