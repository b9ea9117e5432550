import { readFile, stat } from 'node:fs/promises'
import { trimEnds } from './settings/text.ts'

/**
 * The text of a file of settings, without white space and invisible characters at its ends; null where it is no file. A pipe
 * would be waited for for ever.
 */
export const readRegularFile = async (path: string): Promise<string | null> =>
  (await stat(path)).isFile() ? trimEnds(await readFile(path, 'utf8')) : null
