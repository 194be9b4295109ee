labels_syn = torch.arange(10)
image_syn = torch.stack([real(c, 1)[0] for c in range(10)]).requires_grad_()
optimizer = torch.optim.Adam([image_syn], lr=0.05)
for step in range(steps):
    net, loss = network(), torch.zeros(())
    for c in range(10):
        wanted = net.embed(real(c, 32)).mean(0).detach()
        loss = loss + (wanted - net.embed(image_syn[labels_syn == c]).mean(0)).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
