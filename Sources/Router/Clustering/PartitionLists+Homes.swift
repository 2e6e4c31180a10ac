// Lists of one partition each: what an assignment without copies is.

extension PartitionLists {
    /// Every row at its home alone.
    public init(homes: Assignment) {
        self.init(
            starts: Array(0...homes.partitions.count), partitions: homes.partitions,
            distances: homes.distances)
    }
}
