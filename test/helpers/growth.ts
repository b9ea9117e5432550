import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'

/** Returns a text of about that many characters. */
export type TextOf = (length: number) => string

/** A text that repeats one element between a head and a tail. */
export const repeatedText =
  (head: string, element: string, tail: string, separator = ','): TextOf =>
  (length) => {
    const count = Math.floor((length - head.length - tail.length) / (element.length + separator.length))
    return `${head}${`${element}${separator}`.repeat(count - 1)}${element}${tail}`
  }

const ROUNDS = 6
const YARDSTICKS_MAX = 10
/** Time of the whole input by the time of a quarter: 4 for linear growth, 16 for quadratic growth. */
const RATIO_MAX = 10
/** The size of the largest response that the gateway reads. */
const YARDSTICK_BYTES = 4 * 1024 * 1024

const durationOf = (work: () => unknown): number => {
  const startedAtMs = performance.now()
  work()
  return performance.now() - startedAtMs
}

/** The shortest of several runs: other work on the machine delays the rest. */
const shortest = (work: () => unknown): number => Math.min(...Array.from({ length: ROUNDS }, () => durationOf(work)))

const parseYardstick = (text: string): unknown => JSON.parse(text)

let idleYardstick: { readonly text: string; readonly ms: number } | undefined

/**
 * The time to parse a response of the largest size that contains only numbers: the shortest of several runs at first,
 * and afterwards the time of one more run, which is longer while the machine has other work.
 */
const yardstickMs = (): number => {
  if (idleYardstick === undefined) {
    const text = repeatedText('[', '0', ']')(YARDSTICK_BYTES)
    idleYardstick = { text, ms: shortest(() => parseYardstick(text)) }
    return idleYardstick.ms
  }
  const { text, ms } = idleYardstick
  return Math.max(
    ms,
    durationOf(() => parseYardstick(text)),
  )
}

const ATTEMPTS = 4

/** Other work on the machine can distort a measurement. Quadratic growth fails every attempt. */
const retryMeasurement = (measure: () => void): void => {
  for (let attempt = 1; attempt < ATTEMPTS; attempt += 1) {
    try {
      measure()
      return
    } catch {
      // The next attempt measures again.
    }
  }
  measure()
}

/**
 * Asserts that a quarter, a half and the whole of the input take at most `YARDSTICKS_MAX` times as long as parsing the
 * largest response, and that the time does not grow quadratically. Growth of short times is not checked.
 */
export const assertLinear = (textOf: TextOf, length: number, work: (text: string) => unknown): void =>
  retryMeasurement(() => measureGrowth(textOf, length, work))

const measureGrowth = (textOf: TextOf, length: number, work: (text: string) => unknown): void => {
  const unitMs = yardstickMs()
  const timesMs = [4, 2, 1].map((part) => {
    const text = textOf(length / part)
    const timeMs = shortest(() => work(text))
    assert.ok(timeMs < YARDSTICKS_MAX * unitMs, `1/${part} took ${timeMs} ms, yardstick ${unitMs} ms`)
    return timeMs
  })
  const [quarterMs = 0, , wholeMs = 0] = timesMs
  if (wholeMs > unitMs) assert.ok(wholeMs / quarterMs < RATIO_MAX, `${timesMs} ms, yardstick ${unitMs} ms`)
}

/** The longest turn of the event loop during the work. */
const longestTurn = async (work: () => Promise<unknown>): Promise<number> => {
  let isOver = false
  const worked = work().finally(() => {
    isOver = true
  })
  let longestMs = 0
  for (let lastMs = performance.now(); !isOver; ) {
    await setImmediate()
    const nowMs = performance.now()
    longestMs = Math.max(longestMs, nowMs - lastMs)
    lastMs = nowMs
  }
  await worked
  return longestMs
}

/** Asserts that no turn of the event loop takes much longer than parsing the largest response. */
export const assertUnblocked = async (work: () => Promise<unknown>): Promise<void> => {
  const unitMs = yardstickMs()
  const turnsMs: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) turnsMs.push(await longestTurn(work))
  assert.ok(Math.min(...turnsMs) < YARDSTICKS_MAX * unitMs, `held up for ${turnsMs} ms, yardstick ${unitMs} ms`)
}
