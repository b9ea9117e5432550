import { readFile, stat } from 'node:fs/promises'

/** The text of a file; null where it is none. A pipe would be waited for for ever. */
export const readRegularFile = async (path: string): Promise<string | null> =>
  (await stat(path)).isFile() ? readFile(path, 'utf8') : null
