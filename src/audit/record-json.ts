import { isoTime } from '../time.ts'
import { visible, visibleUserAgent } from '../visible-text.ts'
import { type ColumnType, JSON_COLUMNS } from './columns.ts'
import type { AuditRecord } from './store.ts'

// Earlier versions stored texts without escapes, so texts are escaped here too.
const FORMATS: Readonly<Record<ColumnType, (value: unknown) => unknown>> = {
  text: (value) => (typeof value === 'string' ? visible(value) : null),
  time: (value) => (typeof value === 'number' ? isoTime(value) : null),
  count: (value) => value,
  source: (value) => value,
}

/** A record as callers and exports see it. */
export const recordToJson = (record: AuditRecord): Readonly<Record<string, unknown>> => {
  const values: Readonly<Record<string, unknown>> = { ...record, userAgent: visibleUserAgent(record.userAgent) }
  const columns = JSON_COLUMNS.map(({ property, type, json }) => [json, FORMATS[type](values[property])])
  return { ...Object.fromEntries(columns), isFinal: record.isFinal }
}
