// Appliances behind a load balancer, in subnets that are there.

@description('Begins the names of all that is made.')
param name string = 'sallyport'

@description('The region.')
param location string = resourceGroup().location

@description('The image, as image.bicep says it.')
param imageVersionId string

@description('Whether its signature is checked: the image has been signed, and image.bicep has been given the certificate.')
param secureBoot bool = false

@description('The subnet that people come in by. With one NIC, the only one.')
param publicSubnetId string

@description('The subnet that leads to the targets; empty for one NIC.')
param privateSubnetId string = ''

@description('The text of the configuration. It must not have the keys files and store.')
param configuration string

@description('What the configuration names: name beside it to text.')
@secure()
param files object = {}

@description('The database of a fleet, such as postgres://sallyport@db.example/sallyport?sslmode=verify-full, without a password.')
param storeUrl string = ''

@description('The password of the database\'s user.')
@secure()
param storePassword string = ''

@description('The port of the database, which may be reached beside SSH and RDP.')
param storePort int = 5432

@description('Where HTTPS may go, for an identity provider or a certificate authority, as IPv4 networks.')
param serviceNetworks array = []

@description('How many appliances stand for one. More than one need storeUrl.')
@minValue(1)
param instances int = 1

@description('The availability zones that they are spread over.')
param zones array = [ '1', '2', '3' ]

@description('The size of a VM; of the second generation, with accelerated networking.')
param size string = 'Standard_D2as_v5'

@description('After how many minutes without a packet the load balancer forgets a connection.')
@minValue(4)
@maxValue(100)
param idleMinutes int = 30

@description('Azure wants an account for each VM. The appliance has none, and no program that would ask for it.')
@secure()
param unused string = 'Aa1-${newGuid()}'

// What is added comes after the configuration, so that what is wrong with that is told with its own lines. Each text stands
// below its name, indented.
var secrets = empty(storePassword) ? {} : { 'store.password': storePassword }
var texts = map(items(union(files, secrets)), file => '  ${file.key}: |\n    ${replace(file.value, '\n', '\n    ')}\n')
var store = union({ url: storeUrl }, empty(storePassword) ? {} : { password_file: 'store.password' })
var addedFiles = empty(texts) ? '' : '\nfiles:\n${join(texts, '')}'
var addedStore = empty(storeUrl) ? '' : '\nstore: ${string(store)}\n' // JSON is YAML
var document = '${configuration}${addedFiles}${addedStore}'

var nics = empty(privateSubnetId) ? [ 'public' ] : [ 'public', 'private' ]
var subnets = { public: publicSubnetId, private: privateSubnetId }

// The two rules that matter are people and targets. By itself Azure lets in whatever is in the VNet, and out whatever goes
// there or to the internet: vnet-in and out end that. A VM tells the platform that it is ready, and asks it for names.
var people = [
  {
    name: 'people'
    properties: {
      priority: 100
      direction: 'Inbound'
      access: 'Allow'
      protocol: '*'
      sourceAddressPrefix: 'Internet'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRanges: [ '443' ]
    }
  }
  {
    name: 'vnet-in'
    properties: {
      priority: 4000
      direction: 'Inbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: 'VirtualNetwork'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRanges: [ '0-442', '444-65535' ]
    }
  }
]
var nobody = [
  {
    name: 'vnet-in'
    properties: {
      priority: 4000
      direction: 'Inbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRanges: [ '0-65535' ]
    }
  }
]
var targets = [
  {
    name: 'targets'
    properties: {
      priority: 100
      direction: 'Outbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: 'VirtualNetwork'
      destinationPortRanges: empty(storeUrl) ? [ '22', '3389' ] : [ '22', '3389', string(storePort) ]
    }
  }
  {
    name: 'names'
    properties: {
      priority: 110
      direction: 'Outbound'
      access: 'Allow'
      protocol: 'Udp'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: 'VirtualNetwork'
      destinationPortRanges: [ '53' ]
    }
  }
]
var platform = [
  {
    name: 'platform'
    properties: {
      priority: 120
      direction: 'Outbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '168.63.129.16'
      destinationPortRanges: [ '80', '32526' ]
    }
  }
  {
    name: 'out'
    properties: {
      priority: 4000
      direction: 'Outbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRanges: [ '0-65535' ]
    }
  }
]
var services = [for (network, i) in serviceNetworks: {
  name: 'service-${i}'
  properties: {
    priority: 200 + i
    direction: 'Outbound'
    access: 'Allow'
    protocol: 'Tcp'
    sourceAddressPrefix: '*'
    sourcePortRange: '*'
    destinationAddressPrefix: network
    destinationPortRanges: [ '443' ]
  }
}]
// With one NIC it has all of them.
var rules = {
  public: concat(people, empty(privateSubnetId) ? targets : [], services, platform)
  private: concat(nobody, targets, services, platform)
}

resource groups 'Microsoft.Network/networkSecurityGroups@2024-05-01' = [for nic in nics: {
  name: '${name}-${nic}'
  location: location
  properties: { securityRules: rules[nic] }
}]

resource publicAddress 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: name
  location: location
  sku: { name: 'Standard' }
  zones: zones
  properties: { publicIPAllocationMethod: 'Static' }
}

resource balancer 'Microsoft.Network/loadBalancers@2024-05-01' = {
  name: name
  location: location
  sku: { name: 'Standard' }
  properties: {
    frontendIPConfigurations: [
      { name: 'public', properties: { publicIPAddress: { id: publicAddress.id } } }
    ]
    backendAddressPools: [
      { name: 'appliances' }
    ]
    // An appliance whose port answers is asked to take people. Azure does not say whether its HTTPS probe speaks TLS 1.3,
    // which is all that the appliance speaks.
    probes: [
      { name: 'https', properties: { protocol: 'Tcp', port: 443, intervalInSeconds: 5, probeThreshold: 2 } }
    ]
    // Somebody whose UDP is blocked in the midst of things goes on over TCP, with the same appliance: who has the flow.
    loadBalancingRules: [for protocol in [ 'Tcp', 'Udp' ]: {
      name: toLower(protocol)
      properties: {
        protocol: protocol
        frontendPort: 443
        backendPort: 443
        idleTimeoutInMinutes: idleMinutes
        loadDistribution: 'SourceIP'
        frontendIPConfiguration: { id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', name, 'public') }
        backendAddressPool: { id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', name, 'appliances') }
        probe: { id: resourceId('Microsoft.Network/loadBalancers/probes', name, 'https') }
      }
    }]
  }
}

resource appliances 'Microsoft.Compute/virtualMachineScaleSets@2024-11-01' = {
  name: name
  location: location
  zones: zones
  sku: { name: size, tier: 'Standard', capacity: instances }
  properties: {
    orchestrationMode: 'Flexible'
    platformFaultDomainCount: 1
    virtualMachineProfile: {
      userData: base64(document)
      osProfile: {
        computerNamePrefix: 'sallyport'
        adminUsername: 'unused'
        adminPassword: unused
        allowExtensionOperations: false
        linuxConfiguration: { disablePasswordAuthentication: false, provisionVMAgent: false }
      }
      securityProfile: secureBoot ? {
        securityType: 'TrustedLaunch'
        uefiSettings: { secureBootEnabled: true, vTpmEnabled: true }
      } : null
      storageProfile: {
        imageReference: { id: imageVersionId }
        osDisk: {
          createOption: 'FromImage'
          caching: 'ReadWrite'
          diskSizeGB: 4
          managedDisk: { storageAccountType: 'StandardSSD_LRS' }
        }
      }
      networkProfile: {
        networkApiVersion: '2022-11-01'
        networkInterfaceConfigurations: [for (nic, i) in nics: {
          name: nic
          properties: {
            primary: i == 0
            enableAcceleratedNetworking: true
            networkSecurityGroup: { id: groups[i].id }
            ipConfigurations: [
              {
                name: nic
                properties: {
                  primary: true
                  subnet: { id: subnets[nic] }
                  loadBalancerBackendAddressPools: i == 0 ? [
                    { id: balancer.properties.backendAddressPools[0].id }
                  ] : []
                }
              }
            ]
          }
        }]
      }
      // The serial console, on which the appliance says what it does.
      diagnosticsProfile: { bootDiagnostics: { enabled: true } }
    }
  }
}

output address string = publicAddress.properties.ipAddress
