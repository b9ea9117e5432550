import type { Grant } from './caller.ts'
import { coversDomain, toDomain } from './domain-names.ts'

/** The part of a task that concerns one domain, as the upstream reports it. */
export interface TaskPart {
  readonly taskNo: string
  readonly detailNo: string | null
  readonly type: string | null
  readonly domain: string | null
}

/** All that a task does, as far as it was read. */
export interface TaskContents {
  readonly taskNo: string
  readonly details: readonly TaskPart[]
  /** How many details there are, as each page said that was read. */
  readonly totals: readonly number[]
}

export type Restrictions = Pick<Grant, 'domains' | 'taskTypes'>

/** Whether the permission depends on the task at all. */
export const isRestricted = ({ domains, taskTypes }: Restrictions): boolean => domains !== null || taskTypes !== null

/** Whether these details alone show that their task is outside the restrictions. */
export const excludes = (restrictions: Restrictions, details: readonly TaskPart[]): boolean =>
  !details.every((detail) => isInside(restrictions, detail))

/** Whether the whole task is known and inside the restrictions. */
export const allows = (restrictions: Restrictions, task: TaskContents): boolean =>
  // For an empty list, `every` would be true.
  task.details.length > 0 && isWhole(task) && !excludes(restrictions, task.details)

/** A detail that was read twice stands where another should. */
const isWhole = ({ taskNo, details, totals }: TaskContents): boolean =>
  details.every((detail) => detail.taskNo === taskNo) &&
  new Set(details.map(({ detailNo }) => detailNo)).size === details.length &&
  totals.every((total) => total === details.length)

/** A detail without a domain is outside every restriction. */
const isInside = ({ domains, taskTypes }: Restrictions, { type, domain }: TaskPart): boolean =>
  domain !== null &&
  domain !== '' &&
  (taskTypes === null || (type !== null && taskTypes.includes(type))) &&
  (domains === null || isCovered(domains, domain))

const isCovered = (patterns: readonly string[], text: string): boolean => {
  const domain = toDomain(text)
  return domain !== null && patterns.some((pattern) => coversDomain(pattern, domain))
}
