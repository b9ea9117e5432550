import type { Request, RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'

// Vendor examples are UUIDs, but no format is published: everything that needs no escaping anywhere is let through.
const TASK_NO = /^[A-Za-z0-9_-]{1,64}$/

const RULE = {
  en: 'must be 1 to 64 letters, digits, hyphens or underscores',
  zh: '必须由 1 到 64 个字母、数字、短划线或下划线组成',
} as const

export const checkTaskNo: RequestHandler = function taskNoGuard(req, _res, next) {
  if (!TASK_NO.test(taskNoOf(req))) throw new GatewayError('task-no-invalid', { field: 'taskNo', rule: RULE })
  next()
}

/** The `:taskNo` of the path; empty where the route has none. */
export const taskNoOf = (req: Request): string => (typeof req.params.taskNo === 'string' ? req.params.taskNo : '')
