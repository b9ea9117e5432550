import { Socket } from 'node:net'
import { DatabaseError, Pool, type PoolClient, TypeOverrides, types } from 'pg'
import { by, deadlineIn } from '../deadline.ts'
import type { Secret } from '../secret.ts'

/** What a statement came to. A code is the server's SQLSTATE; where it said nothing, nobody knows what it has done. */
export type Answer =
  | { readonly ok: true; readonly rows: readonly Readonly<Record<string, unknown>>[] }
  | { readonly ok: false; readonly code: string }

export type Query = (sql: string, values?: readonly unknown[]) => Promise<Answer>

/** Connections to one server as one role, made when they are needed and made anew when they were lost. */
export interface Connections {
  readonly query: Query
  /** All of it or nothing: it is committed unless one of its statements failed. */
  transaction(work: (query: Query) => Promise<Answer>): Promise<Answer>
  close(): Promise<void>
}

export interface ConnectionsOptions {
  readonly url: Secret
  readonly max: number
  /** How long to wait for a connection, and for a lock and a statement on the server. */
  readonly connectMs: number
  readonly lockMs: number
  readonly statementMs: number
}

/** Where there was no server to ask, and where one was asked and did not answer. */
export const UNREACHABLE = 'unreachable'
export const UNANSWERED = 'unanswered'

/** What the server is given beyond its own deadline before it is taken for gone. */
const ANSWER_MS = 1000
const CLOSE_MS = 500

// Numbers of ours fit: they are milliseconds and counts.
const numbers = new TypeOverrides()
numbers.setTypeParser(types.builtins.INT8, Number)

// An append is durable when it is answered, whatever is set for the database.
const SESSION = '-c search_path=audit -c synchronous_commit=on'

export const createConnections = (options: ConnectionsOptions): Connections => {
  const sockets = new Set<Socket>()
  const pool = new Pool({
    connectionString: options.url.reveal(),
    options: SESSION,
    application_name: 'domain-task-gateway',
    max: options.max,
    types: numbers,
    keepAlive: true,
    connectionTimeoutMillis: options.connectMs,
    lock_timeout: options.lockMs,
    statement_timeout: options.statementMs,
    query_timeout: options.statementMs + ANSWER_MS,
    stream: () => trackSocket(sockets),
  })
  // An idle connection that is lost is replaced by the next statement, which tells.
  pool.on('error', () => undefined)

  const use = async (work: (client: PoolClient) => Promise<Answer>): Promise<Answer> => {
    const client = await pool.connect().catch((error: unknown) => codeOf(error, UNREACHABLE))
    if (typeof client === 'string') return { ok: false, code: client }
    // One that is lost meanwhile says so to whoever waits, and would end the process besides.
    client.on('error', ignore)
    const answer = await work(client)
    client.off('error', ignore)
    // What is left of a failure, such as an open transaction, ends with its connection.
    client.release(!answer.ok)
    return answer
  }

  return {
    query: (sql, values) => use((client) => queryOn(client)(sql, values)),
    transaction: (work) => use((client) => transact(queryOn(client), work)),
    close: async () => {
      await by(deadlineIn(CLOSE_MS), pool.end(), undefined)
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A server that is frozen closes nothing. */
const trackSocket = (sockets: Set<Socket>): Socket => {
  const socket = new Socket()
  sockets.add(socket)
  socket.once('close', () => sockets.delete(socket))
  return socket
}

const transact = async (query: Query, work: (query: Query) => Promise<Answer>): Promise<Answer> => {
  const begun = await query('BEGIN')
  const done = begun.ok ? await work(query) : begun
  const ended = done.ok ? await query('COMMIT') : done
  return ended.ok ? done : ended
}

const ignore = (): void => undefined

const queryOn =
  (client: PoolClient): Query =>
  async (sql, values = []) => {
    try {
      // Several statements at once have none.
      const { rows = [] } = await client.query(sql, [...values])
      return { ok: true, rows }
    } catch (error) {
      return { ok: false, code: codeOf(error, UNANSWERED) }
    }
  }

const codeOf = (error: unknown, otherwise: string): string =>
  error instanceof DatabaseError ? (error.code ?? otherwise) : otherwise
