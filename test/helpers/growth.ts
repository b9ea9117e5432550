import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'

/** A text of about that many characters. */
export type TextOf = (length: number) => string

/** A text that consists of one element again and again, between a beginning and an end. */
export const repeatedText =
  (head: string, element: string, tail: string, separator = ','): TextOf =>
  (length) => {
    const count = Math.floor((length - head.length - tail.length) / (element.length + separator.length))
    return `${head}${`${element}${separator}`.repeat(count - 1)}${element}${tail}`
  }

const ROUNDS = 6
const YARDSTICKS_MAX = 10
/** Of a quarter of the input and the whole: 4 where the time is linear, 16 where it grows with the square. */
const RATIO_MAX = 10
/** Of the largest answer that is read at all. */
const YARDSTICK_BYTES = 4 * 1024 * 1024

const durationOf = (work: () => unknown): number => {
  const startedAtMs = performance.now()
  work()
  return performance.now() - startedAtMs
}

/** The shortest of several runs: the others were held up by what else the machine does. */
const shortest = (work: () => unknown): number => Math.min(...Array.from({ length: ROUNDS }, () => durationOf(work)))

/** How long it takes here and now to parse the largest answer, where that is plain numbers. */
const yardstickMs = (): number => {
  const text = repeatedText('[', '0', ']')(YARDSTICK_BYTES)
  return shortest(() => JSON.parse(text))
}

const ATTEMPTS = 4

/** Other work of the machine can spoil a measurement. Time that does grow too fast is found by every attempt. */
const retryMeasurement = (measure: () => void): void => {
  for (let attempt = 1; attempt < ATTEMPTS; attempt += 1) {
    try {
      measure()
      return
    } catch {
      // Measured again.
    }
  }
  measure()
}

/**
 * A quarter, a half and the whole take hardly longer than parsing the largest answer, and the time does not grow with the
 * square of the length; a short time is not compared.
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

/** The longest time for which the event loop did nothing else while work went on. */
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

/** No turn of the event loop takes much longer than parsing the largest answer. */
export const assertUnblocked = async (work: () => Promise<unknown>): Promise<void> => {
  const unitMs = yardstickMs()
  const turnsMs: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) turnsMs.push(await longestTurn(work))
  assert.ok(Math.min(...turnsMs) < YARDSTICKS_MAX * unitMs, `held up for ${turnsMs} ms, yardstick ${unitMs} ms`)
}
