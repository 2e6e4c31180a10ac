// Which instructions distances are computed with: a figure of time means nothing without it.

import CKernels

/// The tier of kernels in force.
public enum KernelTier {
    /// "scalar", "avx2" or "avx512".
    public static var name: String { String(cString: sonde_tier_name(sonde_tier_now())) }
}
