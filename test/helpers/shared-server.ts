import { after } from 'node:test'

/** One server for the tests of a file, from the first use until the last test. */
export const shareServer = <T extends { remove(): Promise<void> }>(start: () => Promise<T>): (() => Promise<T>) => {
  let started: Promise<T> | undefined
  after(async () => (await started)?.remove())
  return () => {
    started ??= start()
    return started
  }
}
