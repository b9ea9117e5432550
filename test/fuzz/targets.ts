import * as callers from './targets/callers.ts'
import * as http from './targets/http.ts'
import { settings } from './targets/settings.ts'
import * as upstream from './targets/upstream.ts'

/** Throws where a parser breaks one of its properties for this input. */
export type Check = (data: Buffer) => void | Promise<void>

const { addresses, cookies, hosts, prefer, records, returns, subnets, tasks, texts } = http
const { encodings, failures, json, pages, responses, times } = upstream
const { claims, domains, entries, keys, moments, seals, tokens } = callers

/** One for each parser of external input, by the name of its folder of the corpus. */
export const TARGETS: ReadonlyMap<string, Check> = new Map<string, Check>(
  Object.entries({
    ...{ addresses, cookies, hosts, prefer, records, returns, subnets, tasks, texts },
    ...{ encodings, failures, json, pages, responses, times },
    ...{ claims, domains, entries, keys, moments, seals, settings, tokens },
  }),
)
