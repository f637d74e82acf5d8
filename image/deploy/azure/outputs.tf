output "address" {
  description = "Where people come in: the DNS name of the appliance leads here."
  value       = azurerm_public_ip.this.ip_address
}

output "image_version_id" {
  description = "The image that new appliances are made from."
  value       = local.image_id
}
