import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRecordReader, type RecordQuery } from '../../src/audit/record-query.ts'

const OWNER = { via: 'jwt', issuer: 'https://issuer.example.com', caller: 'alice' } as const

/** An audit trail in which each step has more entries behind it, and no entry is found. */
const endlessRecord = () => {
  const statements: RecordQuery[] = []
  const read = async (query: RecordQuery): Promise<unknown> => {
    statements.push(query)
    if (query.sql.includes('projection_progress')) return [{ requested_at: null }]
    return query.sql.includes('OFFSET') && statements.length < 50 ? [{ requested_at: 1, seq: 1 }] : []
  }
  return { statements, fold: createRecordReader('sqlite', read) }
}

for (const rest of [{}, { outcome: 'unknown' }, { outcome: 'pending' }, { taskNo: 't-1' }, { fromMs: 1 }] as const) {
  const filter = { owner: OWNER, limit: 50, before: null, ...rest }

  test(`an owner that asks for another name finds nothing, and no entry is read: ${JSON.stringify(rest)}`, async () => {
    const { statements, fold } = endlessRecord()
    assert.deepEqual(await fold.list({ ...filter, caller: 'bob' }), { records: [], next: null })
    assert.deepEqual(statements, [])
  })

  test(`an owner that asks for its own name reads what it reads without: ${JSON.stringify(rest)}`, async () => {
    const [named, unnamed] = [endlessRecord(), endlessRecord()]
    await named.fold.list({ ...filter, caller: OWNER.caller })
    await unnamed.fold.list(filter)
    assert.deepEqual(named.statements, unnamed.statements)
  })
}
