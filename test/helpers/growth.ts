import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'

/** A text of about that many characters. */
export type TextOf = (length: number) => string

/** A text that consists of one element again and again, between a beginning and an end. */
export const filled =
  (head: string, element: string, tail: string, separator = ','): TextOf =>
  (length) => {
    const count = Math.floor((length - head.length - tail.length) / (element.length + separator.length))
    return `${head}${Array(count).fill(element).join(separator)}${tail}`
  }

const ROUNDS = 3
/** Of a quarter of the input and the whole: 4 where the time is linear, 16 where it grows with the square. */
const RATIO_MAX = 10
const YARDSTICKS_MAX = 5

/** What this thread spent so far, in milliseconds: other work of the machine does not count. */
const spentMs = (): number => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

const costOf = (work: () => unknown): number => {
  const before = spentMs()
  work()
  return spentMs() - before
}

/** Parsing plain numbers: what any reader of a text of that length spends at least. */
const yardstick = (length: number): (() => unknown) => {
  const text = filled('[', '0', ']')(length)
  return () => JSON.parse(text)
}

/** The least cost of several runs of each. */
const leastCosts = (works: readonly (() => unknown)[]): readonly number[] => {
  const rounds = Array.from({ length: ROUNDS }, () => works.map(costOf))
  return works.map((_, index) => Math.min(...rounds.map((round) => round[index] ?? 0)))
}

/**
 * The whole takes hardly longer than parsing a text of that length, and its time has not grown with the square of the
 * length: a short time is not compared.
 */
export const assertLinear = (textOf: TextOf, length: number, work: (text: string) => unknown): void => {
  const works = [length / 4, length / 2, length].map(textOf).map((text) => () => work(text))
  const [unit = 0, quarter = 0, half = 0, whole = 0] = leastCosts([yardstick(length), ...works])
  const told = `quarter ${quarter} ms, half ${half} ms, whole ${whole} ms, yardstick ${unit} ms`
  assert.ok(whole < YARDSTICKS_MAX * unit, told)
  if (whole > unit) assert.ok(whole / quarter < RATIO_MAX, told)
}

/** The most that this thread spent in one turn of the event loop while work went on. */
const longestTurn = async (work: () => Promise<unknown>): Promise<number> => {
  let isOver = false
  const worked = work().finally(() => {
    isOver = true
  })
  let longestMs = 0
  for (let last = spentMs(); !isOver; ) {
    await setImmediate()
    const now = spentMs()
    longestMs = Math.max(longestMs, now - last)
    last = now
  }
  await worked
  return longestMs
}

/** No turn of the event loop takes much longer than parsing a text of that length. */
export const assertUnblocked = async (length: number, work: () => Promise<unknown>): Promise<void> => {
  const [unit = 0] = leastCosts([yardstick(length)])
  const turns: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) turns.push(await longestTurn(work))
  const longestMs = Math.min(...turns)
  assert.ok(longestMs < YARDSTICKS_MAX * unit, `held up for ${longestMs} ms, yardstick ${unit} ms`)
}
