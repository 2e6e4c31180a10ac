// What every bench of kernels shares: CPU time of this thread, medians, columns.

import CMemory
import Glibc

func seconds(_ body: () -> Void) -> Double {
    var start = timespec()
    var end = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
    body()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
    return Double(end.tv_sec - start.tv_sec) + Double(end.tv_nsec - start.tv_nsec) * 1e-9
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

func text(_ value: Double, _ digits: Int = 2) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let whole = Int((value * scale).rounded())
    var fraction = String(whole % Int(scale))
    while fraction.count < digits { fraction = "0" + fraction }
    return digits == 0 ? "\(whole)" : "\(whole / Int(scale)).\(fraction)"
}

func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// Seconds to add up the buffer: what memory gives to one core.
func plainRead(_ buffer: UnsafeMutableRawPointer, _ byteCount: Int) -> Double {
    var sum: UInt64 = 0
    let time = seconds { sum = bench_plain_read(buffer, byteCount) }
    // The sum is used, so that the loop stays.
    if sum == 1 { print("") }
    return time
}
