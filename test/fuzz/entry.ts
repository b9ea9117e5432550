import { type Check, TARGETS } from './targets.ts'

// The module that Jazzer.js runs, bundled. `FUZZ_TARGET` names one target.

/** The first byte selects the target, so that one process runs all of them. */
const anyTarget: Check = async (data) => {
  const checks = [...TARGETS.values()]
  await checks[(data[0] ?? 0) % checks.length]?.(data.subarray(1))
}

/** Random inputs do not contain these six bytes. Jazzer.js finds them because it traces comparisons. */
const plantedFault: Check = (data) => {
  if (data.toString('latin1').slice(0, 6) === 'Prefer') throw new Error('the planted fault')
}

const others: ReadonlyMap<string, Check> = new Map([
  ['any', anyTarget],
  ['planted', plantedFault],
])

const name = process.env.FUZZ_TARGET ?? 'any'

/** Under the name that Jazzer.js looks for. */
export const fuzz: Check | undefined = TARGETS.get(name) ?? others.get(name)
