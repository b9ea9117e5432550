/**
 * The task types that the vendor documents, with their meaning in the languages of the page.
 * @type {Readonly<Record<string, Readonly<Record<import('./texts.js').Lang, string>>>>}
 */
export const TASK_TYPES = {
  CHG_HOLDER: { en: 'Change the registrant', zh: '修改域名持有者' },
  CHG_DNS: { en: 'Change DNS servers', zh: '修改 DNS 服务器' },
  SET_WHOIS_PROTECT: { en: 'Set privacy protection', zh: '设置隐私保护' },
  UPDATE_ADMIN_CONTACT: { en: 'Change the administrative contact', zh: '修改管理联系人' },
  UPDATE_BILLING_CONTACT: { en: 'Change the billing contact', zh: '修改付费联系人' },
  UPDATE_TECH_CONTACT: { en: 'Change the technical contact', zh: '修改技术联系人' },
  UPDATE_REGISTRANT_CONTACT: { en: 'Change the registrant contact', zh: '修改注册联系人' },
  SET_UPDATE_PROHIBITED: { en: 'Set the update lock', zh: '设置域名更新锁' },
  SET_TRANSFER_PROHIBITED: { en: 'Set the transfer lock', zh: '设置域名转移锁' },
  ORDER_ACTIVATE: { en: 'Register', zh: '域名注册' },
  ORDER_RENEW: { en: 'Renew', zh: '域名续费' },
  ORDER_REDEEM: { en: 'Redeem', zh: '域名赎回' },
  CREATE_DNSHOST: { en: 'Create a DNS host', zh: '创建 DNS 主机' },
  UPDATE_DNSHOST: { en: 'Update a DNS host', zh: '更新 DNS 主机' },
  SYNC_DNSHOST: { en: 'Synchronise DNS hosts', zh: '同步 DNS 主机' },
  DELETE_DOMAIN: { en: 'Delete the domain', zh: '删除域名' },
}
