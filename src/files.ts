import { readFile, stat } from 'node:fs/promises'
import { pause, repeat, type SingleFlight, singleFlight } from './async.ts'
import { trimEnds } from './settings/text.ts'

/**
 * The text of a file of settings, without white space and invisible characters at its ends; null if it is no regular
 * file: reading a pipe would never end.
 */
const readRegularFile = async (path: string): Promise<string | null> =>
  (await stat(path)).isFile() ? trimEnds(await readFile(path, 'utf8')) : null

export const POLL_EVERY_MS = 2000

/**
 * Reads the files together at regular intervals. A text is null if its file can't be read. By polling, since mounted
 * secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const pollFiles = (
  paths: readonly string[],
  onTexts: (texts: readonly (string | null)[]) => void,
  everyMs: number = POLL_EVERY_MS,
): SingleFlight<void> & { close(): void } => {
  const closing = new AbortController()
  const reads = singleFlight(async () => {
    const texts = await Promise.all(paths.map((path) => readRegularFile(path).catch(() => null)))
    if (!closing.signal.aborted) onTexts(texts)
  })
  void pause(everyMs, closing.signal).then(() => repeat(reads.run, everyMs, closing.signal))
  return { ...reads, close: () => closing.abort() }
}
