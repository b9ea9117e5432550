import { DatabaseSync, type StatementSync } from 'node:sqlite'

/** Looks over the gateway's shoulder: an intent must be durable before the cancellation is sent. */
export interface AuditCheck {
  /** Is there a committed intent for the task that has no outcome yet? False too where the store can't be read. */
  hasOpenIntent(taskNo: string): boolean
  close(): void
}

interface OpenStore {
  readonly database: DatabaseSync
  readonly statement: StatementSync
}

const OPEN_INTENT = `
  SELECT 1 FROM intents AS i
  WHERE i.task_no = ? AND NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.cancellation_id = i.id)
  LIMIT 1`

const BUSY_TIMEOUT_MS = 1000

/** Opens the store at the first question, since the gateway may create it later than the sandbox starts. */
export const createAuditCheck = (path: string): AuditCheck => {
  let store: OpenStore | null = null

  const close = (): void => {
    store?.database.close()
    store = null
  }

  return {
    hasOpenIntent: (taskNo) => {
      try {
        store ??= openStore(path)
        return store.statement.get(taskNo) !== undefined
      } catch {
        close()
        return false
      }
    },
    close,
  }
}

const openStore = (path: string): OpenStore => {
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS })
  try {
    return { database, statement: database.prepare(OPEN_INTENT) }
  } catch (error) {
    database.close()
    throw error
  }
}
