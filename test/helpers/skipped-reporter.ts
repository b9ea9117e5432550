import type { TestEvent } from 'node:test/reporters'

/** Lists skipped tests and their reasons at the end, so that they are not mistaken for passed tests. */
export default async function* skippedReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const skipped: string[] = []
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (data.skip === undefined || data.skip === false) continue
    skipped.push(`skipped: ${data.name} (${typeof data.skip === 'string' ? data.skip : 'no reason given'})\n`)
  }
  yield* skipped
}
