/** Clocks of replicas and of issuers may differ by so much, in both directions. */
export const CLOCK_TOLERANCE_MS = 5000
