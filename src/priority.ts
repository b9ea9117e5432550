/**
 * The purposes of attempts, most important first. Each has its own queue and its own health.
 * - `cancel`: CancelTask.
 * - `check`: the policy reads before a cancel.
 * - `follow-up`: reads of the task after a cancel: settling, and watching for `Prefer: wait`.
 * - `read`: callers' own reads, and the settling in the background.
 */
export const PRIORITIES = ['cancel', 'check', 'follow-up', 'read'] as const

export type Priority = (typeof PRIORITIES)[number]

/** 0 for the most important. */
export const rankOf = (priority: Priority): number => PRIORITIES.indexOf(priority)

/** One value for each priority. */
export const byPriority = <T>(create: (priority: Priority) => T): Readonly<Record<Priority, T>> => ({
  cancel: create('cancel'),
  check: create('check'),
  'follow-up': create('follow-up'),
  read: create('read'),
})
