import type { Task } from '../../src/alibaba/task-schemas.ts'

/** A task in execution, with the given changes. */
export const taskOf = (changes: Partial<Task> = {}): Task => ({
  taskNo: 't',
  type: null,
  typeDescription: null,
  status: 'executing',
  cancelStatus: 'none',
  domainCount: 1,
  createdAtMs: null,
  clientIp: null,
  ...changes,
})
